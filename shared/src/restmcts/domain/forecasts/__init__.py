"""What a run will take, before it begins: arithmetic over what was measured."""
