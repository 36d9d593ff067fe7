//! A plugin that has been built: the parts that it takes in a request.

use std::sync::Arc;

use super::check::Reference;
use super::estimate::EstimateSettings;
use super::external::External;
use super::kind::Role;
use super::settings::{ExactSettings, InFlightSettings, PrefixSettings, TokenizerSettings};
use crate::control::{
    Admitter, EndpointProducer, PreRequest, Reporter, RequestProcessor, ResponseReceived,
    SaturationDetector, Screener,
};
use crate::schedule::{Filter, Picker, ProfileHandler, Scorer};
use crate::stats::FamilySource;

/// What a plugin does, by extension point. One object may stand behind several parts and share its state among them.
#[derive(Clone, Debug, Default)]
pub struct Parts {
    /// Removes candidates of a profile.
    pub filter: Option<Arc<dyn Filter>>,
    /// Rates candidates of a profile.
    pub scorer: Option<Arc<dyn Scorer>>,
    /// Chooses, and how many endpoints it ranks; `None`: as many as the engine is set to.
    pub picker: Option<(Arc<dyn Picker>, Option<usize>)>,
    /// Names the profile that runs.
    pub handler: Option<Arc<dyn ProfileHandler>>,
    /// Removes candidates before any profile runs.
    pub screener: Option<Arc<dyn Screener>>,
    /// Refuses requests.
    pub admitter: Option<Arc<dyn Admitter>>,
    /// Tells how loaded the pool is.
    pub saturation: Option<Arc<dyn SaturationDetector>>,
    /// Reads request headers.
    pub request: Option<Arc<dyn RequestProcessor>>,
    /// Fills columns of the candidates.
    pub columns: Option<Arc<dyn EndpointProducer>>,
    /// Acts on the choice.
    pub pre_request: Option<Arc<dyn PreRequest>>,
    /// Adds to the response's headers.
    pub response: Option<Arc<dyn ResponseReceived>>,
    /// Tells the gateway about the finished request.
    pub reporter: Option<Arc<dyn Reporter>>,
    /// How the approximate prefix index is kept.
    pub prefix: Option<PrefixSettings>,
    /// How the exact prefix index is kept and read.
    pub exact: Option<Arc<ExactSettings>>,
    /// How in-flight load is counted.
    pub in_flight: Option<InFlightSettings>,
    /// Metrics of its own.
    pub families: Option<Arc<dyn FamilySource>>,
    /// How prompts are estimated.
    pub estimate: Option<EstimateSettings>,
    /// Who makes token ids of prompts.
    pub tokenizer: Option<TokenizerSettings>,
    /// A filter or scorer that is written in another language.
    pub external: Option<(Role, Arc<dyn External>)>,
    /// Other plugins that its parameters ask for in a way that their shapes do not tell.
    pub needs: Vec<Reference>,
}

impl Parts {
    /// A filter.
    pub fn filter(filter: impl Filter + 'static) -> Self {
        Self::default().with_filter(Arc::new(filter))
    }

    /// A scorer.
    pub fn scorer(scorer: impl Scorer + 'static) -> Self {
        Self::default().with_scorer(Arc::new(scorer))
    }

    /// Also a filter.
    #[must_use]
    pub fn with_filter(mut self, filter: Arc<dyn Filter>) -> Self {
        self.filter = Some(filter);
        self
    }

    /// Also a scorer.
    #[must_use]
    pub fn with_scorer(mut self, scorer: Arc<dyn Scorer>) -> Self {
        self.scorer = Some(scorer);
        self
    }

    /// Also acts on the choice.
    #[must_use]
    pub fn with_pre_request(mut self, pre_request: Arc<dyn PreRequest>) -> Self {
        self.pre_request = Some(pre_request);
        self
    }

    /// Also adds to the response's headers.
    #[must_use]
    pub fn with_response(mut self, response: Arc<dyn ResponseReceived>) -> Self {
        self.response = Some(response);
        self
    }

    /// Also reads request headers.
    #[must_use]
    pub fn with_request(mut self, request: Arc<dyn RequestProcessor>) -> Self {
        self.request = Some(request);
        self
    }

    /// Also tells how loaded the pool is.
    #[must_use]
    pub fn with_saturation(mut self, saturation: Arc<dyn SaturationDetector>) -> Self {
        self.saturation = Some(saturation);
        self
    }

    /// Also needs what another plugin makes, and says so in a parameter.
    #[must_use]
    pub fn with_needs(mut self, needs: Vec<Reference>) -> Self {
        self.needs = needs;
        self
    }

    /// The extension points that are taken, as far as they can be told from the parts.
    pub fn roles(&self) -> Vec<Role> {
        let external = self.external.as_ref().map(|(role, _)| *role);
        let has = |role: Role| match role {
            Role::Filter => self.filter.is_some(),
            Role::Scorer => self.scorer.is_some(),
            Role::Picker => self.picker.is_some(),
            Role::ProfileHandler => self.handler.is_some(),
            Role::Producer => {
                self.request.is_some()
                    || self.columns.is_some()
                    || self.prefix.is_some()
                    || self.exact.is_some()
                    || self.in_flight.is_some()
                    || self.estimate.is_some()
                    || self.tokenizer.is_some()
            }
            Role::Screener => self.screener.is_some(),
            Role::Admitter => self.admitter.is_some(),
            Role::PreRequest => self.pre_request.is_some(),
            Role::ResponseReceived => self.response.is_some(),
            Role::ResponseComplete => self.reporter.is_some(),
            Role::SaturationDetector => self.saturation.is_some(),
        };
        Role::ALL
            .iter()
            .copied()
            .filter(|role| has(*role) || external == Some(*role))
            .collect()
    }
}
