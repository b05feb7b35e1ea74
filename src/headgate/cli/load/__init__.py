"""How much does a service bear? The load that ``headgate bench`` makes, and what it measures meanwhile."""
