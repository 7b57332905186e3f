"""What GPU backends share: device, memory, arrays, graphs, times."""
