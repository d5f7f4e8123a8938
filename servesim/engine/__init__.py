"""One replica at run time: continuous batching by spans, and its step-by-step definition."""
