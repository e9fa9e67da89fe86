"""Sources: exchange frames in, sealed segments out."""
