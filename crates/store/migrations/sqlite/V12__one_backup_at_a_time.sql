-- One backup of a volume is made at a time. Where several were asked for, the first one stays.
UPDATE volume_backups SET state = 'FAILED', reason = 'another backup of the volume was under way: ask for it again'
WHERE state = 'CREATING' AND EXISTS (
    SELECT 1 FROM volume_backups earlier
    WHERE earlier.volume_instance_id = volume_backups.volume_instance_id AND earlier.state = 'CREATING' AND earlier.id < volume_backups.id
);
CREATE UNIQUE INDEX volume_backups_creating ON volume_backups (volume_instance_id) WHERE state = 'CREATING';
CREATE INDEX volume_backups_failed ON volume_backups (created_at) WHERE state = 'FAILED';
