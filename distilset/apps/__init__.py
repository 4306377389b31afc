"""What distilled sets are for: continual learning, and searching for networks and settings."""
