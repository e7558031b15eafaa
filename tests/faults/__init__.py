"""What the fault runs share: a proxy that is a bad neighbour, a load that remembers, and what arrived in Kafka."""
