-- Since when a replica that runs answers nobody.
ALTER TABLE replicas ADD COLUMN unhealthy_since BIGINT;
