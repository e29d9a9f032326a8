// Lists as TypeScript SDKs before 0.3.0 read them: bare arrays, executions by limit and offset, no list of tasks.
import { listJobExecutions, listJobs } from "@blaxel/core";

/** The names of all jobs; these versions take no pages of jobs. */
export const jobs = async () => {
  const { data } = await listJobs({ throwOnError: true });
  return [data.map((job) => job.metadata.name), 1];
};

/** The ids of all executions of `job`, and how many pages of `limit` they came on; the helper reads them whole. */
export const executions = async (job, limit) => {
  const path = { jobId: job.jobName };
  const pages = [];
  do {
    const query = { limit, offset: limit * pages.length };
    pages.push((await listJobExecutions({ path, query, throwOnError: true })).data);
  } while (pages.at(-1).length === limit);
  const found = pages.flat().map((each) => each.metadata.id);
  const whole = (await job.listExecutions()).map((each) => each.metadata.id);
  if (String(found) !== String(whole)) throw new Error(`pages hold ${found}, the whole list ${whole}`);
  return [found, pages.length];
};

/** Nothing: these versions have no such call. */
export const tasks = async () => null;
