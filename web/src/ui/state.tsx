import type { DeploymentStatus, ServiceCardFragment } from "../gql";

export type Tone = "healthy" | "busy" | "waiting" | "failed" | "asleep" | "off";

const words: Record<DeploymentStatus, [Tone, string]> = {
  SUCCESS: ["healthy", "Live"],
  BUILDING: ["busy", "Building"],
  DEPLOYING: ["busy", "Deploying"],
  INITIALIZING: ["busy", "Starting"],
  QUEUED: ["waiting", "Queued"],
  WAITING: ["waiting", "Waiting"],
  NEEDS_APPROVAL: ["waiting", "Needs approval"],
  CRASHED: ["failed", "Crashed"],
  FAILED: ["failed", "Failed"],
  SLEEPING: ["asleep", "Asleep"],
  REMOVED: ["off", "Replaced"],
  REMOVING: ["busy", "Stopping"],
  SKIPPED: ["off", "Skipped"],
};

export function isUnderWay(status: DeploymentStatus): boolean {
  return words[status][0] === "busy" || status === "QUEUED" || status === "WAITING";
}

/** Where the app answers, as the server says it. */
export function addressOf(instance: ServiceCardFragment): string | null {
  const url = instance.activeDeployments[0]?.url ?? instance.latestDeployment?.url;
  if (!url) return null;
  return /^https?:/.test(url) ? url : `http://${url}`;
}

/** Each state has a shape of its own, so that colour is never alone. */
export function Shape({ tone, size = 12 }: { tone: Tone; size?: number }) {
  const common = { width: size, height: size, viewBox: "0 0 12 12", "aria-hidden": true } as const;
  switch (tone) {
    case "healthy":
      return (
        <svg {...common}>
          <circle cx="6" cy="6" r="4.5" fill="currentColor" />
        </svg>
      );
    case "busy":
      return (
        <svg {...common} fill="none" stroke="currentColor" strokeWidth="1.8">
          <circle cx="6" cy="6" r="4.2" opacity="0.3" />
          <path className="turning" d="M6 1.8A4.2 4.2 0 0 1 10.2 6" strokeLinecap="round" />
        </svg>
      );
    case "waiting":
      return (
        <svg {...common} fill="none" stroke="currentColor" strokeWidth="1.6">
          <circle cx="6" cy="6" r="4.2" />
          <path d="M6 3.8V6l1.6 1" strokeLinecap="round" />
        </svg>
      );
    case "failed":
      return (
        <svg {...common} fill="none" stroke="currentColor" strokeWidth="2" strokeLinecap="round">
          <path d="m2.5 2.5 7 7m0-7-7 7" />
        </svg>
      );
    case "asleep":
      return (
        <svg {...common}>
          <path d="M10.4 7.6A4.8 4.8 0 1 1 4.6 1.4a3.9 3.9 0 0 0 5.8 6.2Z" fill="currentColor" />
        </svg>
      );
    case "off":
      return (
        <svg {...common} fill="none" stroke="currentColor" strokeWidth="1.8" strokeLinecap="round">
          <path d="M2.5 6h7" />
        </svg>
      );
  }
}

export function State({ tone, children }: { tone: Tone; children: React.ReactNode }) {
  return (
    <span className="status" data-tone={tone}>
      <Shape tone={tone} />
      {children}
    </span>
  );
}

interface Deployed {
  status: DeploymentStatus | null | undefined;
  stopped?: boolean;
}

/** What is told of the newest deployment of a service, wherever that is. */
export function stateOf({ status, stopped }: Deployed): [Tone, string] {
  if (!status) return ["off", "Not deployed"];
  if (stopped && status === "FAILED") return ["off", "Not approved"];
  if (stopped && status === "SUCCESS") return ["off", "Stopped"];
  return words[status];
}

export function DeploymentState(of: Deployed) {
  const [tone, word] = stateOf(of);
  return <State tone={tone}>{word}</State>;
}
