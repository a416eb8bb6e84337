/** Tests of Complement that Greenroom fails, and why. */
export interface KnownFailure {
  /** As Go writes its name. It stands for its subtests too. */
  readonly test: string
  readonly reason: string
}

export const knownFailures: Readonly<Record<string, ReadonlyArray<KnownFailure>>> = {}
