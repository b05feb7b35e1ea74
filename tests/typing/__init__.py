"""The public surface as users type it: `make types` checks these modules, nothing runs them."""
