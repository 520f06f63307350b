"""The ground: settings, checks, files, the Hub, threads, processes, devices."""
