"""The way to the server: the connection, JetStream's requests, the errors."""
