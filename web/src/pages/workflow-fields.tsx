import { Plus, Trash2 } from "lucide-react";
import { useEffect, useRef, useState } from "react";
import type { RequestField } from "../api/flow";
import type { ChangedField, FieldType } from "../rest";
import { Button } from "../ui/basic";
import { read, useTyped, written } from "./workflow-typed";

const types: FieldType[] = ["text", "number", "boolean", "image", "audio", "video", "avmedia", "file", "select", "any"];

interface Props {
  fields: RequestField[];
  onFields: (next: ChangedField[], before: ChangedField[]) => void;
}

/** As the server takes it. */
const sent = ({ id, name, type, value }: RequestField): ChangedField => ({ id, name, type: type as FieldType, value: value ?? null });

/** What a caller gives, to be changed. */
export function RequestFields({ fields, onFields }: Props) {
  // A change may follow another before that one is read again.
  const latest = useRef(fields.map(sent));
  useEffect(() => {
    latest.current = fields.map(sent);
  }, [fields]);
  const put = (change: (all: ChangedField[]) => ChangedField[]) => {
    const before = latest.current;
    latest.current = change(before);
    onFields(latest.current, before);
  };
  const [name, setName] = useState("");
  const [type, setType] = useState<FieldType>("text");
  const add = () => {
    put((all) => [...all, { name: name.trim(), type, value: null }]);
    setName("");
  };
  return (
    <>
      <ul className="stack tight" aria-label="Fields">
        {fields.map((field) => (
          <FieldRow key={field.id} field={field} onField={(part) => put((all) => all.map((one) => (one.id === field.id ? { ...one, ...part } : one)))} onRemove={() => put((all) => all.filter((one) => one.id !== field.id))} />
        ))}
      </ul>
      <form
        className="row"
        onSubmit={(event) => {
          event.preventDefault();
          if (name.trim()) add();
        }}
      >
        <input className="input grow" style={{ minWidth: 0 }} aria-label="Name of the new field" placeholder="Another field" maxLength={100} value={name} onChange={(event) => setName(event.target.value)} />
        <TypeSelect label="Type of the new field" type={type} onType={setType} />
        <Button size="small" disabled={!name.trim()} onClick={add}>
          <Plus size={14} /> Add
        </Button>
      </form>
    </>
  );
}

function TypeSelect({ label, type, onType }: { label: string; type: FieldType; onType: (type: FieldType) => void }) {
  return (
    <select className="select" style={{ width: 92, flex: "none" }} aria-label={label} value={type} onChange={(event) => onType(event.target.value as FieldType)}>
      {types.map((one) => (
        <option key={one}>{one}</option>
      ))}
    </select>
  );
}

function FieldRow({ field, onField, onRemove }: { field: RequestField; onField: (part: Partial<ChangedField>) => void; onRemove: () => void }) {
  const name = useTyped(field.name);
  const value = useTyped(written(field.value));
  const saveName = () => {
    const text = name.text.trim();
    if (!text || text === field.name) return;
    name.settle();
    onField({ name: text });
  };
  const saveValue = () => {
    if (value.text === written(field.value)) return;
    value.settle();
    onField({ value: value.text === "" ? null : field.type === "text" ? value.text : read(value.text) });
  };
  return (
    <li className="stack tight">
      <span className="row">
        <input className="input grow" style={{ minWidth: 0 }} aria-label={`Name of ${field.name}`} maxLength={100} value={name.text} onChange={(event) => name.setText(event.target.value)} onBlur={saveName} />
        {/* A default of another type would not fit. */}
        <TypeSelect label={`Type of ${field.name}`} type={field.type as FieldType} onType={(type) => onField({ type, value: null })} />
        <button type="button" className="icon-button" aria-label={`Remove ${field.name}`} title="Remove, with its edges" onClick={onRemove}>
          <Trash2 size={14} />
        </button>
      </span>
      {field.type === "boolean" ? (
        <label className="row small">
          <input type="checkbox" aria-label={`Default of ${field.name}`} checked={field.value === true} onChange={(event) => onField({ value: event.target.checked })} /> Yes, when nothing is given
        </label>
      ) : (
        <input className="input" aria-label={`Default of ${field.name}`} placeholder="When nothing is given" spellCheck={false} value={value.text} onChange={(event) => value.setText(event.target.value)} onBlur={saveValue} />
      )}
    </li>
  );
}
