"""What the commands do: each job writes into one folder, with a record, and can be interrupted."""
