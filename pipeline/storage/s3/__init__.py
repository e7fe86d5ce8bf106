"""Object stores of the S3 protocol."""
