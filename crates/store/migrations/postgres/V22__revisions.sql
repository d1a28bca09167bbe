-- Counts the commits that rest on what was read of an environment, so that one which has read less than there is can be told.
ALTER TABLE environments ADD COLUMN revision BIGINT NOT NULL DEFAULT 0;
