"""The uploaded images of jobs, sealed, in a folder or a bucket, while a job needs them."""
