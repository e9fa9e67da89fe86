"""How a long-lived process behaves: time, supervision, channels, workers, telemetry, logs."""
