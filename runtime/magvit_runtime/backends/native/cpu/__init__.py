"""The native backend's program on the CPU, in float32."""
