"""What is done with LiDAR scans alone: motion compensation, odometry, local maps."""
