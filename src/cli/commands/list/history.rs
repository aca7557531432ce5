//! `list --history`: data size over time against the limit, and when it will reach it.
//!
//! In: the archives of a backup dir. Out: a chart for each member, or its points and the forecast as
//! JSON.

use crate::monitoring::growth::{Forecast, History, histories};
use crate::repository::{ArchiveSummary, Repository};
use crate::text::{count, size};
use bytesize::ByteSize;
use clap::builder::BoolishValueParser;
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::cli::json::{member, text};
use crate::cli::layout::WIDTH;
use crate::cli::output::{Output, Paint};
use crate::cli::values::size_limit;

#[derive(Debug, clap::Args)]
pub(crate) struct HistoryFlags {
    /// Draw the data size of each member over time, and forecast when it reaches the limit
    #[arg(long, env = "ETCD_ARK_HISTORY", value_parser = BoolishValueParser::new())]
    pub(crate) history: bool,
    /// With --history: limit of the data size
    #[arg(
        long,
        value_name = "SIZE", value_parser = size_limit,
        default_value = "100MB",
        env = "ETCD_ARK_SIZE_LIMIT"
    )]
    size_limit: ByteSize,
}

pub(crate) fn of(flags: &HistoryFlags, summaries: &[ArchiveSummary]) -> Vec<History> {
    histories(summaries, flags.size_limit.as_u64(), crate::clock::now())
}

pub(crate) fn to_json(histories: &[History], repository: &dyn Repository) -> Value {
    let points = |history: &History| {
        let points = history.points.iter();
        let points = points.map(|point| {
            json!({
                "archive": text(&repository.path_of(&point.archive)),
                "created_at": point.at,
                "data_bytes": point.bytes,
            })
        });
        points.collect::<Vec<_>>()
    };
    let histories = histories.iter();
    let members = histories.map(|history| {
        json!({
            "member": member(&history.identity),
            "points": points(history),
            "left_out": history.left_out,
            "limit_bytes": history.limit,
            "forecast": forecast_json(&history.forecast),
        })
    });
    members.collect()
}

fn forecast_json(forecast: &Forecast) -> Value {
    let (kind, at, rate) = match *forecast {
        Forecast::Over { since } => ("over", Some(since), None),
        Forecast::TooFew => ("too-few", None, None),
        Forecast::NotGrowing { bytes_per_day } => ("not-growing", None, Some(bytes_per_day)),
        Forecast::Far { bytes_per_day } => ("far", None, Some(bytes_per_day)),
        Forecast::At { at, bytes_per_day } => ("at", Some(at), Some(bytes_per_day)),
    };
    json!({ "kind": kind, "limit_at": at, "bytes_per_day": rate })
}

pub(crate) fn print(histories: &[History], out: &Output) {
    for (place, history) in histories.iter().enumerate() {
        if place > 0 {
            out.line("");
        }
        out.line(&out.paint(Paint::Strong, &history.identity.to_string()));
        if !history.points.is_empty() {
            out.line(&crate::cli::render::size_chart::picture(history, WIDTH));
        }
        out.line(&summary(history));
        let (how, text) = forecast(history);
        let text = how.map_or_else(|| text.clone(), |how| out.paint(how, &text));
        out.line(&format!("  {text}"));
    }
}

fn summary(history: &History) -> String {
    let sizes = history.points.iter().map(|point| point.bytes);
    let archives = count(history.points.len() as u64, "archive", "archives");
    let range = match (sizes.clone().min(), sizes.max(), history.points.last()) {
        (Some(least), Some(most), Some(newest)) => {
            let (least, most, now) = (size(least), size(most), size(newest.bytes));
            if least == most {
                format!(", {now}")
            } else {
                format!(", {least} to {most}, now {now}")
            }
        }
        _ => String::new(),
    };
    let left_out = match history.left_out {
        0 => String::new(),
        more => format!("; {more} more left out: their dates cannot be right"),
    };
    format!("  {archives}{range}{left_out}")
}

fn forecast(history: &History) -> (Option<Paint>, String) {
    let limit = size(history.limit);
    let day = |at: Timestamp| at.strftime("%Y-%m-%d").to_string();
    #[expect(clippy::cast_sign_loss, reason = "only growth is told as a rate")]
    let rate = |bytes: f64| format!("{} a day", size(bytes as u64));
    match history.forecast {
        Forecast::Over { since } => {
            let text = format!(
                "over {limit} since {}: get help before an upgrade, says etcd's guide",
                day(since)
            );
            (Some(Paint::Bad), text)
        }
        Forecast::TooFew => (
            None,
            "too few archives, or too close together, to tell how it grows".to_owned(),
        ),
        Forecast::NotGrowing { .. } => (None, "not growing".to_owned()),
        Forecast::Far { bytes_per_day } => {
            let text = format!(
                "grows by {}: {limit} is more than 10 years away",
                rate(bytes_per_day)
            );
            (None, text)
        }
        Forecast::At { at, bytes_per_day } => {
            let text = format!(
                "grows by {}: reaches {limit} around {}, if it continues like this",
                rate(bytes_per_day),
                day(at)
            );
            (Some(Paint::Warn), text)
        }
    }
}
