-- What starts workflows when something happens in a workspace: looked for with every entry of its audit log that is about an app.
CREATE INDEX flow_triggers_events ON flow_triggers (workspace_id, id) WHERE kind = 'event';
