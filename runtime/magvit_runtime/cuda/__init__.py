"""The parts that GPU backends share: device, memory, arrays, graphs, times."""
