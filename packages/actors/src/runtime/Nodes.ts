/**
 * What one node of the home server knows of all of them.
 */
import { Context } from "effect"

export class Nodes extends Context.Service<
  Nodes,
  {
    /** How many nodes serve, this one included. */
    readonly count: () => number
    /** Whether this node knows who runs which actors, and holds those that are its own. */
    readonly isReady: () => boolean
  }
>()("greenroom/actors/Nodes") {}

/** A server of one process. */
export const alone: Nodes["Service"] = { count: () => 1, isReady: () => true }
