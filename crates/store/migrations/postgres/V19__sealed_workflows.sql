-- What workflows and their runs hold is sealed: the columns of V8 keep an empty text where a sealed value has taken their place. What is
-- there from before is sealed at the next start of the engine, which finds it by these indexes; they are empty then and stay so.
ALTER TABLE workflows ADD COLUMN sealed_graph BYTEA;
ALTER TABLE flow_graphs ADD COLUMN sealed_body BYTEA;
ALTER TABLE runs ADD COLUMN sealed_input BYTEA;
ALTER TABLE node_runs ADD COLUMN sealed_data BYTEA;
ALTER TABLE flow_triggers ADD COLUMN sealed_spec BYTEA;
-- An empty text is no JSON.
ALTER TABLE workflows ALTER COLUMN graph TYPE TEXT USING graph::TEXT;
ALTER TABLE flow_graphs ALTER COLUMN body TYPE TEXT USING body::TEXT;
ALTER TABLE runs ALTER COLUMN input TYPE TEXT USING input::TEXT;
ALTER TABLE node_runs ALTER COLUMN logs TYPE TEXT USING logs::TEXT;
ALTER TABLE flow_triggers ALTER COLUMN spec TYPE TEXT USING spec::TEXT;
CREATE INDEX workflows_plain ON workflows (updated_at) WHERE graph <> '';
CREATE INDEX flow_graphs_plain ON flow_graphs (id) WHERE body <> '';
CREATE INDEX runs_plain ON runs (created_at) WHERE input <> '';
CREATE INDEX node_runs_plain ON node_runs (id) WHERE logs <> '';
CREATE INDEX flow_triggers_plain ON flow_triggers (created_at) WHERE spec <> '';
