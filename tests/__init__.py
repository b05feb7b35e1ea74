"""The tests: unit mirrors src/headgate; property, contract, simulation, integration, acceptance; typing."""
