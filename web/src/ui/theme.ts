import { useSyncExternalStore } from "react";

export type Theme = "system" | "light" | "dark";

const readers = new Set<() => void>();

const chosen = () => (localStorage.getItem("theme") as Theme | null) ?? "system";

export function applyTheme(theme = chosen()) {
  if (theme === "system") document.documentElement.removeAttribute("data-theme");
  else document.documentElement.dataset.theme = theme;
}

export function setTheme(theme: Theme) {
  localStorage.setItem("theme", theme);
  applyTheme(theme);
  for (const reader of readers) reader();
}

export function useTheme(): Theme {
  return useSyncExternalStore((reader) => {
    readers.add(reader);
    return () => readers.delete(reader);
  }, chosen);
}

/** As the choices are called. */
export const themes: [Theme, string][] = [
  ["system", "As the system"],
  ["light", "Light"],
  ["dark", "Dark"],
];
