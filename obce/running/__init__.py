"""Running models: loading, fine-tuning, evaluation, records, streams, speed, export."""
