//! Tables and charts that several commands print.

pub(crate) mod checklist;
pub(crate) mod log;
pub(crate) mod member;
pub(crate) mod member_table;
pub(crate) mod perfdata;
pub(crate) mod rewind_plan;
pub(crate) mod script;
pub(crate) mod size_chart;
