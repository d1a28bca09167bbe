//! What a node may be: data that the editor, the model list, the checks and the engine read (`contracts/flow.md` 5).

use std::borrow::Cow;

use indexmap::IndexMap;

use super::PortType::{self, Any, Audio, Boolean, Image, Number, Select, Text, Video};
use super::field::{Form, Input};

/// A family of node types.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Category {
    /// Pictures.
    Image,
    /// Films.
    Video,
    /// Sounds.
    Audio,
    /// Language models.
    Llm,
    /// Everything that needs no model.
    Utility,
    /// Orrery's own verbs.
    Platform,
}

impl Category {
    /// Every family.
    pub const ALL: [Self; 6] = [Self::Image, Self::Video, Self::Audio, Self::Llm, Self::Utility, Self::Platform];

    /// As on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Image => "image",
            Self::Video => "video",
            Self::Audio => "audio",
            Self::Llm => "llm",
            Self::Utility => "utility",
            Self::Platform => "platform",
        }
    }

    /// Reads a family.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|category| category.as_str() == text)
    }
}

/// Whether a node may be performed twice without anyone noticing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// A function of its input: repeated at will.
    Pure,
    /// Reaches outside: its start is on disk before it begins, and it carries its node run's id as a stable key.
    Outside,
}

/// A kind of node.
#[derive(Clone, Debug, PartialEq)]
pub struct NodeType {
    /// The key, in underscores.
    pub key: Cow<'static, str>,
    /// For people.
    pub name: Cow<'static, str>,
    /// For people.
    pub description: &'static str,
    /// The family.
    pub category: Category,
    /// Whether the key is Orrery's own and not one of the contract.
    pub own: bool,
    /// Whether it reaches outside.
    pub effect: Effect,
    /// What it takes.
    pub inputs: Vec<Input>,
    /// Whether edges may also bring inputs under names of the user's choice.
    pub open: bool,
    /// What it gives: ports `out:<name>`.
    pub outputs: Vec<(&'static str, PortType)>,
    /// How long an attempt may take unless the node says otherwise. Milliseconds.
    pub timeout_ms: u64,
}

impl NodeType {
    /// An input by its name.
    #[must_use]
    pub fn input(&self, name: &str) -> Option<&Input> {
        self.inputs.iter().find(|input| input.name == name)
    }

    /// The ports `in:…`.
    #[must_use]
    pub fn input_ports(&self) -> Vec<String> {
        self.inputs.iter().map(|input| format!("in:{}", input.name)).collect()
    }

    /// The ports `out:…`.
    #[must_use]
    pub fn output_ports(&self) -> Vec<String> {
        self.outputs.iter().map(|(name, _)| format!("out:{name}")).collect()
    }
}

/// Every kind of node that this installation offers.
#[derive(Clone, Debug)]
pub struct Catalogue(IndexMap<String, NodeType>);

/// The type that keeps a copy of a file; uploads by address are runs of it.
pub const FETCH_FILE: &str = "fetch_file";

/// Types whose inputs may refer to variables of the environment that [`ENVIRONMENT`] names.
pub const REFERRING: [&str; 2] = ["http_request", "notify"];

/// The input that names an environment.
pub const ENVIRONMENT: &str = "environment_id";

/// The type whose model is an input, for endpoints of which nobody has said what stands behind which key.
pub const LLM: &str = "llm";

/// The keys of language models that the contract names. Each works when the operator says which model stands behind it.
pub const LLM_KEYS: [&str; 13] = [
    "claude_opus_4_6",
    "claude_opus_4_7",
    "claude_opus_4_8",
    "claude_sonnet_4_6",
    "gpt_5",
    "gpt_5_4",
    "gpt_5_5",
    "gpt_5_5_pro",
    "gemini_3_1_pro",
    "gemini_3_5_flash",
    "gemini_3_1_flash_lite",
    "deepseek_v3_2",
    "grok_4_3",
];

impl Catalogue {
    /// The types that need no vendor, and the language models that are configured.
    #[must_use]
    pub fn new<'a>(llms: impl IntoIterator<Item = &'a str>) -> Self {
        let mut all = scaffold();
        all.extend(logic());
        all.extend(branches());
        all.extend(outside());
        all.extend(media());
        all.extend(films());
        all.extend(deployments());
        all.extend(environments());
        all.extend(readings());
        all.extend(llms.into_iter().map(llm));
        Self(all.into_iter().map(|kind| (kind.key.to_string(), kind)).collect())
    }

    /// A type by its key.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&NodeType> {
        self.0.get(key).or_else(|| self.0.get(key.strip_prefix("x_")?).filter(|kind| kind.own))
    }

    /// All types that a user may add, in the order of the list.
    pub fn addable(&self) -> impl Iterator<Item = &NodeType> {
        self.0.values().filter(|kind| !super::is_scaffold(&kind.key))
    }
}

const SECOND: u64 = 1000;
const TEXT: Form = Form::Text(100_000);

fn field(name: &'static str, port: PortType, form: Form, description: &'static str) -> Input {
    Input { name, port, many: matches!(form, Form::Media(max) if max > 1), required: false, form, default: None, description }
}

impl Input {
    fn required(self) -> Self {
        Self { required: true, ..self }
    }

    fn or(self, default: &'static str) -> Self {
        Self { default: Some(default), ..self }
    }

    fn many(self) -> Self {
        Self { many: true, ..self }
    }
}

fn utility(key: &'static str, name: &'static str, description: &'static str, inputs: Vec<Input>) -> NodeType {
    NodeType {
        key: key.into(),
        name: name.into(),
        description,
        category: Category::Utility,
        own: true,
        effect: Effect::Pure,
        inputs,
        open: false,
        outputs: vec![("result", Any)],
        timeout_ms: 30 * SECOND,
    }
}

impl NodeType {
    fn gives(self, outputs: &[(&'static str, PortType)]) -> Self {
        Self { outputs: outputs.to_vec(), ..self }
    }

    fn open(self) -> Self {
        Self { open: true, ..self }
    }

    fn reaches_outside(self, timeout_ms: u64) -> Self {
        Self { effect: Effect::Outside, timeout_ms, ..self }
    }

    fn of_contract(self, category: Category) -> Self {
        Self { own: false, category, ..self }
    }
}

fn scaffold() -> Vec<NodeType> {
    let files = vec![field("files", PortType::File, Form::Media(100), "The files' URLs")];
    vec![
        utility(super::REQUEST, "Request", "What a caller gives", vec![]).gives(&[]).of_contract(Category::Utility),
        utility(super::RESPONSE, "Response", "What a caller gets", vec![]).gives(&[]).of_contract(Category::Utility),
        utility(super::FILE_INPUT, "File input", "Files that the workflow brings along", files)
            .gives(&[("file", PortType::File), ("files", PortType::File)])
            .of_contract(Category::Utility),
    ]
}

const OPERATORS: Form = Form::Select(&[
    "truthy",
    "falsy",
    "equals",
    "not_equals",
    "contains",
    "not_contains",
    "greater",
    "greater_or_equal",
    "less",
    "less_or_equal",
]);

fn logic() -> Vec<NodeType> {
    vec![
        utility(
            "text_template",
            "Text template",
            "Fills a template; `{{ name }}` is the input of that name, with filters, conditions and loops",
            vec![
                field("template", Text, TEXT, "The template, in Jinja's language").required(),
                field("values", Any, Form::Json, "An object of further names"),
            ],
        )
        .open()
        .gives(&[("result", Text)]),
        utility(
            "json_transform",
            "JSON transform",
            "Runs a jq program over a value",
            vec![
                field("query", Text, TEXT, "The jq program; several results become a list").required(),
                field("input", Any, Form::Json, "The value; without one, an object of all other inputs"),
            ],
        )
        .open(),
    ]
}

fn branches() -> Vec<NodeType> {
    vec![
        utility(
            "condition",
            "Condition",
            "Goes on at `true` or at `false`; what hangs at the other end alone is left out",
            vec![
                field("value", Any, Form::Json, "What is compared, and handed on"),
                field("operator", Select, OPERATORS, "How").or("\"truthy\""),
                field("other", Any, Form::Json, "With what"),
            ],
        )
        .gives(&[("true", Any), ("false", Any)]),
        utility(
            "merge",
            "Merge",
            "Brings branches together, those that were left out apart",
            vec![
                field("items", Any, Form::Json, "What comes in").many(),
                field("mode", Select, Form::Select(&["list", "first", "object"]), "A list of all, the first, or all as one object")
                    .or("\"list\""),
            ],
        )
        .open(),
        utility(
            "delay",
            "Delay",
            "Waits, also through restarts of the server",
            vec![
                field("seconds", Number, Form::Number(0.0, 2_592_000.0), "How long, at most 30 days").required(),
                field("value", Any, Form::Json, "Handed on unchanged"),
            ],
        ),
        utility(
            "javascript",
            "JavaScript",
            "Runs a function body; `input` and all inputs by name are there, files and network are not",
            vec![
                field("code", Text, TEXT, "The body; what it returns is the result").required(),
                field("input", Any, Form::Json, "A value"),
            ],
        )
        .open(),
    ]
}

const METHODS: Form = Form::Select(&["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD"]);

fn outside() -> Vec<NodeType> {
    vec![
        utility(
            "http_request",
            "HTTP request",
            "Asks another server; requests that change something carry the header Idempotency-Key",
            vec![
                field("url", Text, TEXT, "An http or https address").required(),
                field("method", Select, METHODS, "The method").or("\"GET\""),
                field("headers", Any, Form::Json, "An object of headers"),
                field("body", Any, Form::Json, "Text as it is; anything else as JSON"),
                field("fail_on_error", Boolean, Form::Switch, "Whether a status of 400 and above fails the node").or("true"),
                variables(),
            ],
        )
        .gives(&[("body", Any), ("status", Number), ("headers", Any)])
        .reaches_outside(60 * SECOND),
        utility(
            FETCH_FILE,
            "Fetch file",
            "Keeps a copy of a file from elsewhere with the account's files",
            vec![
                field("url", Text, Form::Text(8000), "An http or https address").required(),
                field("filename", Text, Form::Text(200), "What it is called; as in the address when absent"),
            ],
        )
        .gives(&[("file", PortType::File), ("result", Any)])
        .reaches_outside(60 * SECOND),
    ]
}

fn media() -> Vec<NodeType> {
    let image = || field("image_url", Image, Form::Media(1), "The picture").required();
    let percent = |name, default, text| field(name, Number, Form::Slider(0.0, 100.0), text).or(default);
    let pixels = |name, min, text| field(name, Number, Form::Number(min, 100_000.0), text);
    let crop = utility(
        "crop_image",
        "Crop image",
        "Cuts a part out of a picture",
        vec![
            image(),
            percent("x_percent", "0", "Left edge"),
            percent("y_percent", "0", "Upper edge"),
            percent("width_percent", "100", "Width"),
            percent("height_percent", "100", "Height"),
            pixels("x_px", 0.0, "Left edge in pixels; centred without"),
            pixels("y_px", 0.0, "Upper edge in pixels; centred without"),
            pixels("width_px", 1.0, "Width in pixels; wins over percent"),
            pixels("height_px", 1.0, "Height in pixels; wins over percent"),
        ],
    );
    let resize = utility(
        "resize_image",
        "Resize image",
        "Makes a picture smaller or larger",
        vec![
            image(),
            pixels("width_px", 1.0, "Width; by the height without"),
            pixels("height_px", 1.0, "Height; by the width without"),
            field("fit", Select, Form::Select(&["inside", "cover", "fill"]), "Whole inside, cut to cover, or stretched").or("\"inside\""),
            field("format", Select, Form::Select(&["png", "jpeg", "webp"]), "The file's format").or("\"png\""),
        ],
    );
    // Each makes a file.
    [crop.of_contract(Category::Utility), resize].map(|kind| kind.gives(&[("image_url", Image)]).reaches_outside(60 * SECOND)).into()
}

fn films() -> Vec<NodeType> {
    let video = || field("video_url", Video, Form::Media(1), "The video").required();
    let merge = utility(
        "merge_videos",
        "Merge videos",
        "Puts videos one behind the other; the first says how large and fast the result is",
        vec![
            field("video_urls", Video, Form::Media(100), "At least two videos, in their order").required(),
            field("transition", Select, Form::Select(&["none", "fade", "dissolve"]), "What is between two of them").or("\"none\""),
        ],
    );
    let extract = utility("extract_audio", "Extract audio", "Takes the sound out of a video", vec![video()]);
    let both = utility(
        "merge_av",
        "Merge audio and video",
        "Gives a video another sound; the shorter of both says how long the result is",
        vec![video(), field("audio_url", Audio, Form::Media(1), "The sound").required()],
    );
    let slow = |kind: NodeType| NodeType { timeout_ms: 600 * SECOND, ..kind };
    vec![
        slow(merge.gives(&[("video_url", Video)]).of_contract(Category::Utility)),
        slow(extract.gives(&[("audio_url", Audio)]).of_contract(Category::Utility)),
        slow(both.gives(&[("video_url", Video)]).of_contract(Category::Utility)),
    ]
}

fn platform(key: &'static str, name: &'static str, description: &'static str, inputs: Vec<Input>) -> NodeType {
    NodeType { category: Category::Platform, ..utility(key, name, description, inputs) }.reaches_outside(60 * SECOND)
}

const ID: Form = Form::Text(100);

fn environment() -> Input {
    field(ENVIRONMENT, Text, ID, "The environment's id").required()
}

/// Of the types of [`REFERRING`].
fn variables() -> Input {
    let text = "An environment's id: the other inputs may then say ${{shared.NAME}} or ${{service.NAME}}, and its variables are put in";
    field(ENVIRONMENT, Text, ID, text)
}

fn service() -> Input {
    field("service_id", Text, ID, "The service's id").required()
}

/// A deployment, or a service whose newest one is meant.
fn deployment() -> Vec<Input> {
    vec![
        field("deployment_id", Text, ID, "The deployment's id"),
        field("environment_id", Text, ID, "Without deployment_id: the newest of a service there"),
        field("service_id", Text, ID, "Without deployment_id: that service"),
    ]
}

fn deployments() -> Vec<NodeType> {
    let deployed = [("deployment_id", Text), ("result", Any)];
    let replicas = field("replicas", Number, Form::Number(0.0, 1000.0), "How many").required();
    let exact = field("deployment_id", Text, ID, "The deployment's id").required();
    vec![
        platform("deploy", "Deploy", "Deploys the newest source of a service again, with today's settings", vec![environment(), service()])
            .gives(&deployed),
        platform("redeploy", "Redeploy", "Deploys a deployment's source again", deployment()).gives(&deployed),
        platform("rollback", "Roll back", "Goes back to an earlier deployment", vec![exact]).gives(&deployed),
        platform("restart", "Restart", "Restarts a deployment's replicas", deployment()).gives(&deployed),
        platform("scale", "Scale", "Sets how many replicas a service has", vec![environment(), service(), replicas]),
    ]
}

fn environments() -> Vec<NodeType> {
    let quiet = |text| field("skip_deploys", Boolean, Form::Switch, text).or("false");
    vec![
        platform(
            "set_variable",
            "Set variable",
            "Sets a variable of a service, or of a whole environment, and deploys what it concerns",
            vec![
                environment(),
                field("service_id", Text, ID, "Without it, all services of the environment can refer to the variable"),
                field("name", Text, Form::Text(256), "The variable's name").required(),
                field("value", Text, Form::Text(65_536), "Its value").required(),
                quiet("Whether the change waits for the next deployment"),
            ],
        ),
        platform(
            "create_environment",
            "Create environment",
            "Makes an environment, empty or as a copy of another",
            vec![
                field("project_id", Text, ID, "The project's id").required(),
                field("name", Text, Form::Text(100), "Unique in the project").required(),
                field("source_environment_id", Text, ID, "Services, settings and variables are copied from there"),
                quiet("Whether the copies are not started"),
            ],
        )
        .gives(&[("environment_id", Text), ("result", Any)]),
        platform(
            "notify",
            "Notify",
            "Sends a message to an address that takes Slack's form of webhooks",
            vec![
                field("url", Text, TEXT, "The webhook's address").required(),
                field("text", Text, TEXT, "The message").required(),
                variables(),
            ],
        ),
    ]
}

fn readings() -> Vec<NodeType> {
    let limit = |most, text| field("limit", Number, Form::Number(1.0, most), text);
    let mut of_logs = deployment();
    of_logs.extend([
        field("filter", Text, Form::Text(2000), "Words, or @level:error and the like"),
        limit(500.0, "Lines at the most").or("100"),
    ]);
    let metrics = platform(
        "read_metrics",
        "Read metrics",
        "What a service has used lately: averages, and points",
        vec![environment(), service(), field("minutes", Number, Form::Number(1.0, 10_080.0), "How far back").or("10")],
    );
    let sql = platform(
        "sql_query",
        "SQL query",
        "Asks a PostgreSQL or MySQL database of a project",
        vec![
            environment(),
            field("service_id", Text, ID, "The database's service, or one that refers to it in DATABASE_URL or MYSQL_URL").required(),
            field("query", Text, TEXT, "One statement; values as $1, $2 in PostgreSQL, as ? in MySQL").required(),
            field("params", Any, Form::Json, "The list of those values"),
            field("read_only", Boolean, Form::Switch, "Whether the statement may change nothing").or("true"),
            field("max_rows", Number, Form::Number(1.0, 10_000.0), "Rows at the most").or("1000"),
            field("timeout_seconds", Number, Form::Number(1.0, 300.0), "How long the database may take").or("30"),
        ],
    );
    let readable = |kind: NodeType| NodeType { effect: Effect::Pure, ..kind };
    vec![
        readable(metrics.gives(&[("cpu", Number), ("memory_bytes", Number), ("connections", Number), ("items", Any), ("result", Any)])),
        readable(platform("read_logs", "Read logs", "The newest lines of a deployment", of_logs).gives(&[("items", Any), ("result", Any)])),
        NodeType { timeout_ms: 310 * SECOND, ..sql.gives(&[("rows", Any), ("count", Number), ("truncated", Boolean)]) },
    ]
}

fn llm(key: &str) -> NodeType {
    let number = |name, min, max, text| field(name, Number, Form::Number(min, max), text);
    let kind = NodeType {
        key: key.to_owned().into(),
        name: key.replace('_', " ").into(),
        ..utility(
            "",
            "",
            "Asks a language model",
            vec![
                field("prompt", Text, TEXT, "The question").required(),
                field("system_prompt", Text, TEXT, "What the model is"),
                field("image_urls", Image, Form::Media(20), "Pictures to look at"),
                number("max_tokens", 1.0, 1_000_000.0, "The longest answer"),
                number("temperature", 0.0, 2.0, "How free"),
                number("top_p", 0.0, 1.0, "Nucleus sampling"),
                number("top_k", 0.0, 1_000_000.0, "Words to choose among; endpoints may not know it"),
                number("top_a", 0.0, 1.0, "The least likely word, by the square of the likeliest; endpoints may not know it"),
                number("min_p", 0.0, 1.0, "The least likely word, by the likeliest; endpoints may not know it"),
                number("seed", 0.0, 9_007_199_254_740_991.0, "For the same answer again"),
                number("presence_penalty", -2.0, 2.0, "Against repeating subjects"),
                number("frequency_penalty", -2.0, 2.0, "Against repeating words"),
                number("repetition_penalty", 0.0, 2.0, "The same as a factor; endpoints may not know it"),
                field("reasoning", Any, Form::Json, "How much the model thinks, as the endpoint takes it"),
                field("stop", Any, Form::Json, "Where the answer ends"),
            ],
        )
    };
    let mut kind = kind.gives(&[("output", Text)]).reaches_outside(300 * SECOND).of_contract(Category::Llm);
    kind.own = !LLM_KEYS.contains(&key);
    if key == LLM {
        kind.inputs.push(field("model", Text, Form::Text(200), "The model's name at the endpoint").required());
    }
    kind
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_catalogue_is_consistent() {
        let all = Catalogue::new(LLM_KEYS);
        assert!(all.get("http_request").is_some() && all.get("x_http_request").is_some());
        assert!(all.get("x_crop_image").is_none() && all.get("gpt_5").is_some() && all.get("sora_2").is_none());
        for kind in all.addable() {
            assert!(!kind.outputs.is_empty(), "{}", kind.key);
            for input in &kind.inputs {
                if input.default.is_some() {
                    let value = input.default_value().unwrap_or_else(|| panic!("{}.{}: its default is no JSON", kind.key, input.name));
                    assert_eq!(input.refuse(&value), None, "{}.{}", kind.key, input.name);
                }
            }
        }
    }
}
