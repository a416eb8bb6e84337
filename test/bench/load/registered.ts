/** Registers users. */
import { serveLoad } from "../LoadProcess.ts"
import { type Person, register } from "./People.ts"

export interface PeopleInput {
  readonly url: string
  readonly count: number
}

serveLoad(({ count, url }: PeopleInput): Promise<ReadonlyArray<Person>> => register(url, "person", count))
