import { Link, useNavigate } from "@tanstack/react-router";
import { FolderUp } from "lucide-react";
import { useRef, useState } from "react";
import { change } from "../api/client";
import { fromDrop } from "../api/upload";
import { ProjectCreateDocument, type ProjectCreateMutation } from "../gql";
import { Act, Command, Field } from "../ui/basic";
import { FolderButton, useFolderDeploy } from "../ui/deploy-folder";
import { Bar } from "../ui/frame";
import { useViewer, useWorkspace } from "../viewer";
import { Templates } from "./templates";

export function Create() {
  const viewer = useViewer();
  const own = viewer.workspaces.filter((one) => one.viewerCanAdminister);
  const current = useWorkspace();
  const [workspace, setWorkspace] = useState(own.some((one) => one.id === current.id) ? current.id : (own[0]?.id ?? ""));
  const [name, setName] = useState("");
  const [over, setOver] = useState(false);
  const navigate = useNavigate();
  const place = { workspace, name: name.trim() };
  const begin = useFolderDeploy(place);
  // A template that is refused leaves the project that was made for it: what is chosen next goes there.
  const begun = useRef<{ key: string; project: ProjectCreateMutation["projectCreate"] } | null>(null);
  const make = async () => {
    const input = { workspaceId: workspace, name: name.trim() || null };
    const key = JSON.stringify(input);
    if (begun.current?.key === key) return begun.current.project;
    const project = (await change(ProjectCreateDocument, { input })).projectCreate;
    begun.current = { key, project };
    return project;
  };
  const into = async () => {
    const made = await make();
    return { projectId: made.id, environmentId: made.environments.edges[0].node.id };
  };
  return (
    <>
      <Bar />
      <main className="main narrow">
        <div className="head">
          <h1>New project</h1>
          <Link to="/" className="button" data-kind="plain">
            Cancel
          </Link>
        </div>
        <div className="stack loose">
          <div className="two-columns">
            <Field label="Name" hint="Empty: the folder's, or one that is made up">
              <input className="input" value={name} onChange={(event) => setName(event.target.value)} maxLength={64} autoFocus />
            </Field>
            <Field label="Workspace">
              <select className="select" value={workspace} onChange={(event) => setWorkspace(event.target.value)}>
                {own.map((one) => (
                  <option key={one.id} value={one.id}>
                    {one.name}
                  </option>
                ))}
              </select>
            </Field>
          </div>
          <div
            className="dropzone"
            data-over={over}
            onDragOver={(event) => {
              event.preventDefault();
              setOver(true);
            }}
            onDragLeave={() => setOver(false)}
            onDrop={(event) => {
              event.preventDefault();
              setOver(false);
              void fromDrop(event.dataTransfer.items).then(begin);
            }}
          >
            <FolderUp size={24} strokeWidth={1.5} />
            <h2>Drop your app's folder here</h2>
            <p>Node, Python, Rust, Go, a static site, or anything with a Procfile.</p>
            <FolderButton place={place} kind="primary">
              Choose a folder
            </FolderButton>
          </div>
          <section className="stack tight">
            <h2>Or begin with a database or a template</h2>
            <Templates into={into} done={({ projectId, environmentId }) => void navigate({ to: "/p/$project/$env", params: { project: projectId, env: environmentId } })} />
          </section>
          <div className="row wrap between">
            <div className="stack tight">
              <span className="quiet small">From a terminal, in the folder</span>
              <Command>orrery railway -- init && orrery railway -- up</Command>
            </div>
            <Act
              act={async () => {
                await navigate({ to: "/p/$project", params: { project: (await make()).id } });
              }}
            >
              Make an empty project
            </Act>
          </div>
        </div>
      </main>
    </>
  );
}
