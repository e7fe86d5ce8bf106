"""What lets a killed run go on: leases, fingerprints, parts, manifests."""
