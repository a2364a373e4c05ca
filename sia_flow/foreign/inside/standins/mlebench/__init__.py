"""What graders take from MLE-bench beside the helpers that were copied with them."""
