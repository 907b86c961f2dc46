"""The figures of a run in TensorBoard, W&B and MLflow. Short processes beside the stages write them."""
