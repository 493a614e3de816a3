"""What training and hosting on AWS share: session, requests and their errors, files in S3, tags, instance types."""
