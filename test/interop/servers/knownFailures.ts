/** Scenes that are known to fail, because of faults of Dendrite 0.13.8: with `--control` each fails between Dendrite and Synapse too. */
import type { Server } from "./Server.ts"

export interface Occasion {
  readonly scene: string
  readonly version: number
  /** The founder of the room first. */
  readonly kinds: ReadonlyArray<Server["kind"]>
}

interface KnownFailure {
  readonly scene: string
  /** The first room version in which it fails. */
  readonly since?: number
  /** Whether it fails only when another server has founded the room. */
  readonly isGuest?: true
  readonly reason: string
  /** The fault with which it fails; any fault if absent. */
  readonly fault?: RegExp
}

const ofDendrite: ReadonlyArray<KnownFailure> = [
  { scene: "knock", reason: "it has no knocking" },
  { scene: "restricted join", isGuest: true, reason: "it answers 500 to its user whose restricted join was refused" },
  {
    scene: "redact",
    since: 11,
    isGuest: true,
    reason: "it looks for what an event redacts where that was before version 11"
  },
  {
    scene: "profiles and presence",
    isGuest: true,
    reason: "it does not show its users the presence of users of a server whose room they have joined"
  },
  ...["no other messages are read", "all allowed messages are read"].map(
    (part): KnownFailure => ({
      scene: `history visibility: ${part}`,
      isGuest: true,
      reason: "its user who has come back to a room reads nothing there, or gets 500"
    })
  ),
  /*
   * Examined event by event for seeds 1001 and 1002 in version 10, by Synapse's rules and resolution over the PDUs that Dendrite has:
   * each state is that of Greenroom. Alice has power 100, Bob 75. In the first, both ban the same user and set the join rules, and no
   * event of one names one of the other. Power events of the sender with more power are applied first, so Bob's count; Dendrite keeps
   * Alice's. In the second, Alice kicks the user, who joins again, and Bob bans the user: his ban is applied last and the join is
   * refused. Dendrite keeps the kick.
   */
  {
    scene: "random changes in conflict, three times a partition",
    reason: "it resolves some states after a partition otherwise than Synapse and Greenroom, which agree",
    // What bans, kicks, joins and power levels of both sides decide. Other state, faults and forward extremities would be ours.
    fault: /The two sides differ in: (m\.room\.(member|join_rules|power_levels) [^ ,]*(, )?)+$/
  },
  {
    scene: "three servers in one room",
    reason:
      "of two changes of the power levels in a partition it keeps another one than Synapse and Greenroom, which agree"
  }
]

/** The reason why the scene is known to fail, or undefined. */
export const knownFailure = ({ kinds, scene, version }: Occasion, fault: string): string | undefined => {
  if (!kinds.includes("dendrite")) return undefined
  const found = ofDendrite.find(
    (known) =>
      known.scene === scene &&
      version >= (known.since ?? 1) &&
      (known.isGuest === undefined || kinds[0] !== "dendrite") &&
      (known.fault?.test(fault) ?? true)
  )
  return found && `Dendrite: ${found.reason}`
}
