// Lists as TypeScript SDKs from 0.3.0 on read them: pages with cursors, followed by the SDK's own pager.
import { createPaginatedList, listJobExecutionTasks, listJobs } from "@blaxel/core";

const follow = async (fetchPage, query) => {
  let pages = 0;
  const counted = async (pageQuery) => {
    pages += 1;
    return (await fetchPage(pageQuery)).data;
  };
  const mapItem = (item) => item;
  const page = await createPaginatedList({ response: await counted(query), fetchPage: counted, mapItem, query });
  return [await page.autoPagingToArray({ limit: 1000 }), pages];
};

/** The names of all jobs, and how many pages of `limit` they came on. */
export const jobs = async (limit) => {
  const [found, pages] = await follow((query) => listJobs({ query, throwOnError: true }), { limit });
  return [found.map((job) => job.metadata.name), pages];
};

/** The ids of all executions of `job`, and how many pages of `limit` they came on. */
export const executions = async (job, limit) => {
  const found = [];
  let pages = 0;
  for (let page = await job.listExecutions({ limit }); page; page = await page.nextPage()) {
    found.push(...page.data.map((each) => each.metadata.id));
    pages += 1;
  }
  return [found, pages];
};

/** The names of all tasks of an execution, page by page. */
export const tasks = async (job, executionId, limit) => {
  const path = { jobId: job.jobName, executionId };
  const [found] = await follow((query) => listJobExecutionTasks({ path, query, throwOnError: true }), { limit });
  return found.map((task) => task.metadata.name);
};
