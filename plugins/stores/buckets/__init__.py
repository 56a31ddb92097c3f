"""What the stores s3 and minio share: a store's rules over the API of S3. No kind of its own."""
