"""What several tests share: clocks, transports, running the product's own commands, real recordings."""
