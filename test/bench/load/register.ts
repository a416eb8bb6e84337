/** Registers users. */
import { serveLoad } from "../LoadProcess.ts"
import { type Person, register } from "./People.ts"

export interface RegisterInput {
  readonly url: string
  readonly users: number
}

serveLoad(({ url, users }: RegisterInput): Promise<ReadonlyArray<Person>> => register(url, "person", users))
