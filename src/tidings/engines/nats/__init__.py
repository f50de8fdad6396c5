"""The engine for NATS with JetStream."""
