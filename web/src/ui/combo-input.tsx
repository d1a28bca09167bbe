import { useId, useState, type InputHTMLAttributes } from "react";

/** Something that can be put into a field. */
export interface Offer {
  text: string;
  /** How it is listed; as it is put there, if nothing else is said. */
  label?: string;
  /** What it means, for those who do not know it by heart. */
  name?: string;
}

export interface Offered {
  /** What is taken stands instead of the text from here on. */
  from: number;
  found: Offer[];
}

type Props = Omit<InputHTMLAttributes<HTMLInputElement>, "value" | "onChange"> & {
  value: string;
  onValue: (value: string) => void;
  offersFor: (value: string) => Offered;
  /** Of the list. */
  label: string;
  /** What was typed may be meant as it stands: nothing is chosen before an arrow is pressed, and nothing offered before somebody types. */
  free?: boolean;
};

const nothing: Offered = { from: 0, found: [] };

/** A text that is completed at its end, with the keyboard or without. */
export function ComboInput({ value, onValue, offersFor, label, free = false, className = "", ...rest }: Props) {
  const [at, setAt] = useState(free ? -1 : 0);
  const [closed, setClosed] = useState(free);
  const id = useId();
  const { from, found } = closed ? nothing : offersFor(value);
  const chosen = Math.min(at, found.length - 1);
  const take = ({ text }: Offer) => {
    onValue(value.slice(0, from) + text);
    setAt(free ? -1 : 0);
    // Of a key, its values are offered next.
    setClosed(free && !text.endsWith(":"));
  };
  return (
    <span className="references">
      <input
        {...rest}
        className={`input mono ${className}`}
        value={value}
        role="combobox"
        aria-expanded={found.length > 0}
        aria-controls={id}
        aria-activedescendant={chosen >= 0 ? `${id}-${chosen}` : undefined}
        aria-autocomplete="list"
        autoComplete="off"
        spellCheck={false}
        onChange={(event) => {
          setClosed(free && event.target.value.trim() === "");
          if (free) setAt(-1);
          onValue(event.target.value);
        }}
        onBlur={() => setClosed(true)}
        onFocus={() => !free && setClosed(false)}
        onClick={() => setClosed(false)}
        onKeyDown={(event) => {
          const isDown = event.key === "ArrowDown";
          if (closed && free && isDown) {
            setClosed(false);
            setAt(0);
          } else if (found.length === 0) return rest.onKeyDown?.(event);
          else if (isDown || event.key === "ArrowUp") setAt(isDown ? (chosen + 1) % found.length : (Math.max(chosen, 0) + found.length - 1) % found.length);
          else if ((event.key === "Enter" || event.key === "Tab") && chosen >= 0) take(found[chosen]);
          else if (event.key === "Escape") setClosed(true);
          else return rest.onKeyDown?.(event);
          event.preventDefault();
          event.stopPropagation();
        }}
      />
      <span id={id} role="listbox" aria-label={label} className="menu references-list" hidden={found.length === 0}>
        {found.map((one, index) => (
          // The field keeps the focus: pressing the button must not take it.
          <span key={one.text} id={`${id}-${index}`} role="option" aria-selected={index === chosen} className="menu-item mono" data-highlighted={index === chosen ? "" : undefined} onMouseDown={(event) => (event.preventDefault(), take(one))}>
            <span className="grow">{one.label ?? one.text}</span>
            {one.name && <span className="quiet small">{one.name}</span>}
          </span>
        ))}
      </span>
    </span>
  );
}
