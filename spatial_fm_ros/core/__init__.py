"""ROS-free core: frames go in, updates come out. Never imports rclpy, tf2 or message packages."""
