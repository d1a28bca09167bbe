//! What holds for the settings of workflows.

use domain::workflow::catalogue::Catalogue;

use super::{Config, ConfigError, value};

pub(super) fn check(config: &Config) -> Result<(), ConfigError> {
    let refused = |key, value: &str, rule| Err(ConfigError::Refused { key, value: value.to_owned(), rule });
    if !config.llm_url.is_empty() && !config.llm_url.starts_with("http://") && !config.llm_url.starts_with("https://") {
        return refused("llm_url", &config.llm_url, "write it with http:// or https:// in front");
    }
    if let Some(bad) = config.llm_models.iter().find(|text| value::pair(text).is_none()) {
        return refused(
            "llm_models",
            bad,
            "write node types and models like gpt_5=gpt-5-mini; types are of lower case letters, digits and _",
        );
    }
    let taken = Catalogue::new([]);
    let double = config.llm_models.iter().find(|text| value::pair(text).is_some_and(|(kind, _)| taken.get(kind).is_some()));
    if let Some(bad) = double {
        return refused("llm_models", bad, "this type of node is something else: choose another name");
    }
    if config.llm_url.is_empty() && !config.llm_models.is_empty() {
        return refused("llm_models", &config.llm_models.join(","), "say in llm_url where these models are asked");
    }
    let priced = |text: &String| value::pair(text).is_some_and(|(_, price)| price.parse::<u32>().is_ok());
    if let Some(bad) = config.node_prices.iter().find(|text| !priced(text)) {
        return refused("node_prices", bad, "write node types and microcredits like gpt_5=2500");
    }
    if i64::try_from(config.credit_allowance).is_err() {
        return refused("credit_allowance", &config.credit_allowance.to_string(), "write a smaller number");
    }
    if !(1..=256).contains(&config.run_concurrency) {
        return refused("run_concurrency", &config.run_concurrency.to_string(), "write a number from 1 to 256");
    }
    Ok(())
}
