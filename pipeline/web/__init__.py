"""The server: captions, videos and stories over HTTP, and the page that uses them."""
