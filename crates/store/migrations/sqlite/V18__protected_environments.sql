-- Whether what people below admin want deployed there waits for an admin.
ALTER TABLE environments ADD COLUMN is_protected INTEGER NOT NULL DEFAULT 0;
