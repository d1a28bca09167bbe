import { Plus, X } from "lucide-react";
import { useMemo, useState } from "react";
import type { ModelPorts } from "../rest";
import type { Models } from "../ui/flow-graph";
import { useNarrow } from "./canvas";

const families: Record<string, string> = { utility: "Steps", platform: "This platform", llm: "Language", image: "Pictures", video: "Films", audio: "Sounds" };

/** What can be added to a graph. */
export function NodePalette({ models, open, onOpen, onChoose }: { models: Models; open: boolean; onOpen: (open: boolean) => void; onChoose: (type: string) => void }) {
  const narrow = useNarrow();
  const [words, setWords] = useState("");
  const groups = useMemo(() => {
    const wanted = words.trim().toLowerCase().split(/\s+/);
    const found = new Map<string, ModelPorts[]>();
    for (const model of models.values()) {
      const text = `${model.name} ${model.nodeType} ${model.description}`.toLowerCase();
      if (model.nodeType !== "request" && model.nodeType !== "response" && wanted.every((word) => text.includes(word))) found.set(model.category, [...(found.get(model.category) ?? []), model]);
    }
    return [...found].sort(([one], [other]) => Object.keys(families).indexOf(one) - Object.keys(families).indexOf(other));
  }, [models, words]);
  if (narrow && !open) {
    return (
      <button type="button" className="button palette-button" onClick={() => onOpen(true)}>
        <Plus size={14} /> Add a step
      </button>
    );
  }
  return (
    <section className="node-palette" aria-label="Steps to add">
      <span className="row">
        <input className="input grow" aria-label="Find a step" placeholder="Find a step" value={words} onChange={(event) => setWords(event.target.value)} />
        {narrow && (
          <button type="button" className="icon-button" aria-label="Close" onClick={() => onOpen(false)}>
            <X size={16} />
          </button>
        )}
      </span>
      {groups.map(([family, list]) => (
        <div key={family} className="stack" style={{ gap: 2 }}>
          <h2 className="menu-label">{families[family] ?? family}</h2>
          {list.map((model) => (
            <button key={model.nodeType} type="button" className="menu-item" style={{ border: 0, background: "none", textAlign: "left" }} title={model.description} onClick={() => onChoose(model.nodeType)}>
              {model.name}
            </button>
          ))}
        </div>
      ))}
      {groups.length === 0 && <p className="small quiet">Nothing is called that.</p>}
    </section>
  );
}
