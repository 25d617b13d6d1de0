"""Pictures as bytes: what their header says, before any memory is spent, and their pixels."""
