"""What the command line shows: tables for people, JSON for programs."""
