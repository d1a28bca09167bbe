import { useQuery } from "@apollo/client/react";
import { Link, useNavigate, useParams } from "@tanstack/react-router";
import { ChevronsUpDown, Check, LogOut, Monitor, Moon, Plus, Search, Sun } from "lucide-react";
import type { ReactNode } from "react";
import { RegionEndpointsDocument } from "../gql";
import { useViewer, useWorkspace } from "../viewer";
import { Item, ItemLink, Menu, MenuLabel } from "./menu";
import { openPalette } from "./palette";
import { signOut } from "./sign-out";
import { setTheme, themes, useTheme, type Theme } from "./theme";

export function Mark() {
  return (
    <svg width="22" height="22" viewBox="0 0 32 32" aria-hidden="true">
      <circle cx="16" cy="16" r="4.5" fill="#c07c1a" />
      <ellipse cx="16" cy="16" rx="13" ry="6" transform="rotate(-24 16 16)" fill="none" stroke="var(--ink-3)" strokeWidth="1.6" />
      <circle cx="27.2" cy="9.6" r="2.8" fill="var(--accent)" />
    </svg>
  );
}

/** The bar at the top of every page; what stands between the mark and the search is the page's. */
export function Bar({ children }: { children?: ReactNode }) {
  return (
    <header className="bar">
      <Link to="/" className="brand" aria-label="Orrery: all projects">
        <Mark />
        <span>Orrery</span>
      </Link>
      <Regions />
      {children ?? <WorkspaceCrumb />}
      <span className="grow" />
      <button type="button" className="button search-button" data-size="small" onClick={openPalette}>
        <Search size={14} />
        <span className="grow search-label">
          Search
        </span>
        <kbd>{navigator.platform.startsWith("Mac") ? "⌘K" : "Ctrl K"}</kbd>
      </button>
      <AccountMenu />
    </header>
  );
}

/** Other servers of the same people. Each has its own accounts and projects, so that its dashboard begins at the beginning. */
function Regions() {
  const { data } = useQuery(RegionEndpointsDocument);
  const all = data?.regionEndpoints ?? [];
  const here = all.find((one) => one.current);
  if (!here || all.length < 2) return null;
  return (
    <span className="crumb">
      <Menu
        trigger={
          <button type="button" aria-label={`Region ${here.name}`}>
            <span className="cut">{here.name}</span>
            <ChevronsUpDown size={12} />
          </button>
        }
      >
        <MenuLabel>Regions</MenuLabel>
        {all.map((one) => (
          <Item
            key={one.name}
            onSelect={() => {
              if (!one.current) location.assign(one.url);
            }}
          >
            <span className="grow cut">{one.name}</span>
            {one.current && <Check size={14} />}
          </Item>
        ))}
      </Menu>
    </span>
  );
}

export function WorkspaceCrumb() {
  const viewer = useViewer();
  const current = useWorkspace();
  const params = useParams({ strict: false }) as { workspace?: string };
  const shown = viewer.workspaces.find((one) => one.id === params.workspace) ?? current;
  const navigate = useNavigate();
  return (
    <span className="crumb">
      <Menu
        trigger={
          <button type="button" aria-label={`Workspace ${shown.name}`}>
            <span className="cut">{shown.name}</span>
            <ChevronsUpDown size={12} />
          </button>
        }
      >
        <MenuLabel>Workspaces</MenuLabel>
        {viewer.workspaces.map((one) => (
          <Item key={one.id} onSelect={() => navigate({ to: "/", search: { workspace: one.id } })}>
            <span className="grow cut">{one.name}</span>
            {one.id === shown.id && <Check size={14} />}
          </Item>
        ))}
        <hr />
        <ItemLink>
          <Link to="/w/$workspace/members" params={{ workspace: shown.id }}>
            Members and roles
          </Link>
        </ItemLink>
        <ItemLink>
          <Link to="/w/$workspace/usage" params={{ workspace: shown.id }}>
            Usage
          </Link>
        </ItemLink>
        <ItemLink>
          <Link to="/w/$workspace/plan" params={{ workspace: shown.id }}>
            Plan
          </Link>
        </ItemLink>
        <ItemLink>
          <Link to="/w/$workspace/notifications" params={{ workspace: shown.id }}>
            Notifications
          </Link>
        </ItemLink>
      </Menu>
    </span>
  );
}

const icons: Record<Theme, typeof Sun> = { system: Monitor, light: Sun, dark: Moon };

function AccountMenu() {
  const viewer = useViewer();
  const theme = useTheme();
  const initials = (viewer.name || viewer.email).slice(0, 1).toUpperCase();
  return (
    <Menu
      align="end"
      trigger={
        <button type="button" className="icon-button" aria-label={`Account of ${viewer.email}`} style={{ borderRadius: "50%", background: "var(--accent-soft)", color: "var(--accent)", fontWeight: 600, fontSize: 12 }}>
          {initials}
        </button>
      }
    >
      <MenuLabel>{viewer.email}</MenuLabel>
      <ItemLink>
        <Link to="/account">Account</Link>
      </ItemLink>
      <ItemLink>
        <Link to="/account/tokens">Tokens</Link>
      </ItemLink>
      <ItemLink>
        <Link to="/flow">Flow</Link>
      </ItemLink>
      {viewer.isAdmin && (
        <ItemLink>
          <Link to="/operator">This server</Link>
        </ItemLink>
      )}
      <hr />
      <ItemLink>
        <a href="/graphiql">GraphiQL</a>
      </ItemLink>
      <ItemLink>
        <a href="/explorer">Explorer</a>
      </ItemLink>
      <hr />
      <MenuLabel>Appearance</MenuLabel>
      {themes.map(([value, label]) => {
        const Icon = icons[value];
        return (
          <Item key={value} onSelect={() => setTheme(value)}>
            <Icon size={14} />
            <span className="grow">{label}</span>
            {theme === value && <Check size={14} />}
          </Item>
        );
      })}
      <hr />
      <Item onSelect={signOut}>
        <LogOut size={14} /> Sign out
      </Item>
    </Menu>
  );
}

export function NewProject() {
  return (
    <Link to="/new" className="button" data-kind="primary">
      <Plus size={14} /> New project
    </Link>
  );
}
