"""What people look at: pages, plots and sentences."""
